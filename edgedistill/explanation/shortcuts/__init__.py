"""Places that speak for one class alone, and what they do to the answers.

Doors: `looking` searches the maps of two networks and keeps the record; `criterion` decides which places stand out;
`regions` are the places; `changes` takes a place out of images and puts it on others; `record` puts it in words.
"""
