"""`make proof`: same config, same seed, same model, measured. Prints tables; exit code 1 where a bound is broken.

Every shipped config (its networks few pixels large), every loss, penalty and optimizer, labels, spectral normalization
and parts with a state are played on 1, 2, 3 and 4 processes, in 1, 2 and 4 microbatches; stopped and resumed on as many
processes; and handed from one number of processes to the next at random points. Two cases are played on 64 processes
(`--large`), and handed from there to one. Everything is compared with one process that never stopped.
"""
