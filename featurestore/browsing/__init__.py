"""A web page to see stores and hear their clips: JSON, tiles and sounds, live or as static files.

`site` returns the bytes at every path below the page; `server` serves them to a browser on this
machine, and `export` writes them to a directory. The page itself is in `static`.
"""
