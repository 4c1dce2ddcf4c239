"""One page about runs: what their folders say, as charts, pictures and tables that need no network."""
