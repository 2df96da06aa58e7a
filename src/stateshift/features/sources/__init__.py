"""The sources of feature vectors that stateshift holds, one file each."""
