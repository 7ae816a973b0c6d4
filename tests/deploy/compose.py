"""Checks what a Compose file says beyond its schema: what is mounted is there, no port is open to other machines, and every
image has a version. Reads it from its standard input, as `docker-compose config --format json` prints it.
"""

import json
import os
import re
import sys

services = json.load(sys.stdin)["services"]
faults = []
for name, service in services.items():
    mounts = [mount["source"] for mount in service.get("volumes", []) if mount["type"] == "bind"]
    faults += [f"{name} mounts {mount}, which is not there" for mount in mounts if not os.path.exists(mount)]
    ports = [port for port in service.get("ports", []) if port.get("host_ip") != "127.0.0.1"]
    faults += [f"{name} opens {port['target']} beyond this machine" for port in ports]
    if "image" in service and not re.search(r":v?\d+\.\d+\.\d+$", service["image"]):
        faults.append(f"{name} has an image without a version: {service['image']}")
if faults:
    sys.exit("\n".join(faults))
print(f"compose: {len(services)} services checked")
