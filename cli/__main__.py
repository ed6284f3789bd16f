"""`python -m tfp_smvi_cli`, which is the command tfp-smvi."""

from .main import main

main()
