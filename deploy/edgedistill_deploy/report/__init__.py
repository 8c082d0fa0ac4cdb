"""Views of the records: HTML, JUnit and Markdown.

Doors: `page` writes the HTML page, which needs no other file, no network and no script; `junit` and `markdown` are for
build servers.
"""
