"""What a session changed, and how its work comes back."""
