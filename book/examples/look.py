"""Print the journal of an order, whether or not its process is alive."""

from durable.journal.journal import entries
from durable.storage import open_read_only
from durable.storage.node import NodeStorage

files = open_read_only("orders.db")
storage = NodeStorage(files)
status = storage.status("order-7")
print("order-7 is", status.status.value)
print(entries(storage.rows("order-7", status.incarnation, status.run)))
files.close()
