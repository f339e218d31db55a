"""Mutation testing: tests must fail when a small fault (a mutant) is put into the code.

:mod:`scripts.mutants.generate` makes the mutants with cosmic-ray. mutmut was not chosen, because it
does not change constants of a module, nor functions with a decorator. :mod:`scripts.mutants.run`
runs the tests of each mutant, in a copy of the tree.
"""
