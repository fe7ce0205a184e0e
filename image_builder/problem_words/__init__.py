"""What goes wrong, in the reader's language. With `image_builder.contract` all that the manager imports of the builder.

The code writes English and nothing else. A catalogue holds its sentences with holes, each with its translation; a
finished sentence is recognised by its catalogue entry when it is shown. What is stored, and what one service tells
another, stays English.
"""
