"""What host and agent agree on: values only, standard library, Python 3.9."""
