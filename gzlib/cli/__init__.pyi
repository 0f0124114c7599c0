from ..__main__ import main as main  # run one command
