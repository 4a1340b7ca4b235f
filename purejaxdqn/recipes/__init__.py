"""Named settings: algorithms, default recipes for each environment, the five tutorials, and recipe files.

May import `config`, `types`, `machine` and `build`. Read `recipes.py` first.
"""

from purejaxdqn.moved import moved_names

__getattr__ = moved_names("purejaxdqn.recipes.recipes")
