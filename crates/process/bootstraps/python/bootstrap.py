"""Entry of the Python runtimes: `python3 -s -B bootstrap.py`, see ../README.md.

A script is compiled anew at every start, an imported module is not: so this file only finds the package.
"""

if __name__ == "__main__":
    from _brooklet import main

    main()
