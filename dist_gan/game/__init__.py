"""The alternating update of two players, and its measurements."""
