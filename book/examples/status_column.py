"""An order with a status column, advanced by a program that is run every minute."""

import sqlite3

import bank


def advance(db: sqlite3.Connection) -> None:
    for order, cents, status in db.execute("SELECT id, cents, status FROM orders").fetchall():
        if status == "new":
            bank.charge(order, cents)
            db.execute("UPDATE orders SET status = 'paid' WHERE id = ?", (order,))
            db.commit()
            print(f"shop: {order} is paid")


db = sqlite3.connect("orders.sqlite")
db.execute("CREATE TABLE IF NOT EXISTS orders (id PRIMARY KEY, cents, status)")
db.execute("INSERT OR IGNORE INTO orders VALUES ('order-7', 4200, 'new')")
db.commit()
advance(db)
