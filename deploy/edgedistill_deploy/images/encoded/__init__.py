"""Images that are read as files are, encoded, from wherever they lie: files, tables, shards and data sets.

Doors: `sets` is the one set of such images; what it reads from is a `Contents`. `paths` holds the names of many files
in little memory. `tables`, `parquet`, `shards` and `hub` open sources. `patterns` reads how a user names them.
"""
