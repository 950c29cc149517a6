"""The measuring program that runs on the device, as one zipapp.

Standard library, numpy and the runtime only; Python 3.8 syntax. Nothing else of Edgeport is imported here,
because nothing else of Edgeport is on the device. `edgeport.devices.agent_archive` packs it.
"""
