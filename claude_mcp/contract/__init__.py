"""What both sides of the container's wall agree on: values only, standard library, Python 3.9."""
