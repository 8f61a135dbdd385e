"""`python -m towline` is the command line."""

from towline.cli.main import main

main()
