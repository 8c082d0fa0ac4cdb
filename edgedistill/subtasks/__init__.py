"""The classes of a teacher that the expert keeps.

Doors: `subtask` finds named classes and superclasses, `imagenet` has ImageNet's labels and synset ids.
"""
