"""What the session keeps in its home: journal, records of turns, state."""
