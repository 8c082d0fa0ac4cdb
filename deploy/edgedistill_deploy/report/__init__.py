"""Views of the records: HTML, JUnit and Markdown.

Doors: `page` writes the HTML page, which needs no other file, no network and no script. `view` has its values, many of
them from `content/`, and `charts/` draws. `comparing` puts bundles side by side. `junit` and
`markdown` are for build servers.
"""
