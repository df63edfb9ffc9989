"""Sparse products for the CPU, and a sparse encoder made of them.

May import equations and base. `build` compiles the C++ once a machine and says why where it cannot; `products` has
the sparse linear and its gradients, in plain torch where nothing was built; `packed` is the student on disk,
`encoder` the student in use.
"""
