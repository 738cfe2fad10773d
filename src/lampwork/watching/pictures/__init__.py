"""Small pictures of a model while it trains, each made on the device where the tensors live."""
