"""A page to see stores and hear their clips: JSON, tiles and sounds, live or as static files.

`site` answers every path below the page as bytes; `server` hands them to a browser on this machine,
and `export` writes them to a directory. What the page does with them is in `static`.
"""
