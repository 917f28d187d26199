"""Files: what each class's HDF5 files hold. Reading trusts nothing, writing is one step."""
