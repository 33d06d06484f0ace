"""The recorder of live streams: sockets, a clock, a spool. What frames mean is in `sources.venues`.

`connection` keeps one connection of a session alive and numbers its frames; `telling` turns what sessions say into
claims for the coverage ledger; `entry` is how a frame lies in the spool; `landing` moves the spool into bronze;
`recording` runs all of them until it is told to stop.
"""
