"""Files: HDF5 that trusts nothing, written in one step. What each class's files hold."""
