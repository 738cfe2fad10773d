"""Kernels on raw memory behind one Python contract; here in pure torch."""
