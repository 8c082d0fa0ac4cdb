"""Which class a name means, the same for labels, folders, flags and subtasks.

Doors: `lookup` finds names in a list of classes, `spelling` says when two spellings are one name, `imagenet` has
ImageNet's labels and synset ids, and `nouns` has WordNet's nouns above ImageNet's classes. `wordnet.json` is made by
`scripts/make_class_tables.py`.
"""
