"""Files written whole, read bounded, and locked.

Doors: `writing` leaves a whole file or none. `json_text` and `npz` read what others wrote and do not trust its size.
`text` reads what people write.
`locks` is a lock that a dead process does not keep.
"""
