"""One page to listen to; it needs no network.

`render.render` makes it. `assets` has the player and its colours, which the studio serves, too: importing this
package loads no model code.
"""
