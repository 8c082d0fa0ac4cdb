"""Files written whole, read bounded, and locked.

Doors: `writing` leaves a whole file or none, inside its folder. `json_text` and `npz` read what others wrote and do not
trust its size. `text` reads what people write. `names` makes any name fit to be shown.
`locks` is a lock that names its holder, and that a dead process does not keep. `places` reads parts of files here and
on servers, `reaching` finds out whether a server answers, and `caches` says where what can be made again is kept.
"""
