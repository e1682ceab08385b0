"""Results as data and the text made from them, for every front end."""
