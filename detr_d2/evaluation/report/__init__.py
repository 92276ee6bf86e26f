"""The report of an evaluation: what the numbers are made of, on one page, with what to do next."""
