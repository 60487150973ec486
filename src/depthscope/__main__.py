"""`python -m depthscope` is the command line."""

from depthscope.cli import main

main()
