"""Pictures: environment states as frames, episodes as GIF and MP4, learning curves as plots.

May import `config` and `statistics`. Read `render.py` first: it draws one frame of any environment.
"""
