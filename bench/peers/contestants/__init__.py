"""One file, one class, one peer: adding a file adds the peer."""
