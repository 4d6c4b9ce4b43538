"""Files: the cache, the packaged weights, what is written whole, progress bars, processes of their own."""
