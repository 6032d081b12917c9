"""The page on which a person watches a plane: one stream of what changes, and the files of it.

`cli/PAGE.md` says what it shows and how data flows. The door (`door`) is in front of the plane's
HTTP port; the feed (`feed`) samples the plane's status, and looks closely while a page is open; a
reader (`reader`) is one open page.
"""
