"""Faults: kills at random times, a kill or an error at every system call of a save, rotten bytes, a full disk, peers
and launchers that die.

    python -m tests.campaigns.faults [bytes calls disk kills peers mistakes] [--kills 1000] [--peers 10] [--seed 0] ...

`--calls`: a sample of this many system calls; 0: all. Ends with a table; exit code 1 where anything was lost.
`mistakes`: saving is broken on purpose, and each mistake must be noticed. The short form is
tests/campaigns/test_faults.py.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere
