"""What the page asks of a run: plain values for JSON, arrays for what is drawn on a canvas.

Every answer is read from the files as they are, only the part of them that it is about, and cut to
the number of points that a screen can show.
"""
