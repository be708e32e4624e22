"""Check, repair and erasure of a store, built on the declarations in `storage.kinds`."""
