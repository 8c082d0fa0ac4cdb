"""Views of the records: HTML, JUnit and Markdown.

Doors: `page` writes the HTML page, which needs no other file, no network and no script. `view` has its values, with
`points` for its charts, `pictures` and `confusion`. `comparing` puts bundles side by side. `junit` and `markdown` are
for build servers.
"""
