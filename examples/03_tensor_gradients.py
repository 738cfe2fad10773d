"""Gradients of any tensor, leaf or not: what `.grad` does not show, and what an edit does to it.

After `backward()` torch keeps the gradients of leaves only. Here is a small chain of tensors with
the gradient of every one of them:

    c = a + b        e = c * d        o = e.sum()
"""

import torch

import lampwork as lw


def chain():
    a, b, d = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    c = a + b
    e = c * d
    return a, b, c, d, e, e.sum()


# Leaves have their gradient in `.grad`; c, e and o are made of others and do not.
a, b, c, d, e, o = chain()
with lw.capture_gradients(c=c, e=e, o=o) as gradients:
    o.backward()

assert a.grad.tolist() == b.grad.tolist() == [1, 2]  # do/da = do/dc = d
assert d.grad.tolist() == [2, 4]  # do/dd = c
assert gradients.c.tolist() == [1, 2]
assert gradients.e.tolist() == [1, 1]
assert gradients.o.item() == 1
print("do/dc =", gradients.c.tolist(), " do/de =", gradients.e.tolist())

# A hook that returns a new gradient edits it: everything behind c gets the edited one.
a, b, c, d, e, o = chain()
c.register_hook(lambda gradient: gradient * 2)
with lw.capture_gradients(a=a, c=c, d=d, e=e) as gradients:
    o.backward()

assert gradients.e.tolist() == [1, 1]  # before c on the way back: as it was
assert gradients.d.tolist() == [2, 4]  # beside c: as it was
assert gradients.c.tolist() == [2, 4]  # doubled
assert gradients.a.tolist() == a.grad.tolist() == b.grad.tolist() == [2, 4]  # behind c: doubled too
print("edited: do/dc =", gradients.c.tolist(), " do/da =", gradients.a.tolist())
