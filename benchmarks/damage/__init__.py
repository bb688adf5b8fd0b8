"""What happens to a user whose files are damaged: seeded damage, real commands, and a verdict on each.

    world      prepared and annotated data, a run of all three phases, an export; the same of another seed
    case N     a fresh copy of the world -> one damage -> one command -> comparison with undamaged files

To add kinds of damage, add a module of `Damage`s; to add a command, add a `Use` to uses.py; cases.py combines them.
"""
