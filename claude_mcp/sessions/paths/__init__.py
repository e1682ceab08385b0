"""Which paths of the host may be mounted or touched."""
