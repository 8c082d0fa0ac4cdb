"""Which of a teacher's classes the expert keeps.

Doors: `subtask` finds named classes and superclasses, `imagenet` knows ImageNet's labels and synset ids.
"""
