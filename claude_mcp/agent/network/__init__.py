"""The way out of the session: forwarder, relay, seccomp filter, the instance's role."""
