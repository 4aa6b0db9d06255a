"""Where the events of runs are kept while clients may ask for them."""
