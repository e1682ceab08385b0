"""Shell commands: each is found by its id, and outlives the request that started it."""
