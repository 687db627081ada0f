"""A broker whose protocol is the package openbrokerapi; only what a service does, in memory, is ours.

broker.py CATALOG: the services are those of a JSON file; standard output says where it listens. The platform logs in with
BROKER_USERNAME and BROKER_PASSWORD.
"""

import json
import logging
import os
import sys
import threading

from flask import Flask
from openbrokerapi import api, errors
from openbrokerapi.catalog import ServicePlan
from openbrokerapi.service_broker import (
    Binding,
    BindState,
    DeprovisionServiceSpec,
    GetBindingSpec,
    GetInstanceDetailsSpec,
    LastOperation,
    OperationState,
    ProvisionedServiceSpec,
    ProvisionState,
    Service,
    ServiceBroker,
    UnbindSpec,
    UpdateServiceSpec,
)
from werkzeug.serving import make_server

# Polls that an operation takes: all but the last say that it is in progress.
POLLS = 3


class Operation:
    """What is under way; nothing depends on time or chance, so that the same requests get the same answers."""

    def __init__(self, kind, left, fails=False):
        self.kind, self.left, self.fails = kind, left, fails
        # Sent back by the platform with each poll; what is in it must arrive as it was sent.
        self.name = f"{kind}+1 100%25/ü" if left else None

    def poll(self, *asked):
        self.left = max(self.left - 1, 0)
        state = OperationState.IN_PROGRESS if self.left else OperationState.SUCCEEDED
        if self.fails and not self.left:
            state = OperationState.FAILED
        return LastOperation(state, f"{self.kind}, asked for {asked!r}")


class Kept:
    """An instance or a binding."""

    def __init__(self, details, operation):
        self.details, self.operation, self.gone = details, operation, False

    def asked(self):
        """What makes a repeated request identical."""
        resource = getattr(self.details, "bind_resource", None)
        told = {name: value for name, value in vars(self.details).items() if name != "bind_resource"}
        return told, resource and vars(resource)


class Queue(ServiceBroker):
    """A plan with a maximum_polling_duration works asynchronously only, any other at once. What is created with the
    parameter "fail" fails. What was deleted is remembered, so that its last operation can still be asked for."""

    def __init__(self, services):
        self.services = [Service(**service | {"plans": [ServicePlan(**plan) for plan in service["plans"]]}) for service in services]
        self.instances, self.bindings = {}, {}
        self.lock = threading.Lock()

    def catalog(self):
        return self.services

    def start(self, details, kind, allowed):
        plans = [plan for service in self.services if service.id == details.service_id for plan in service.plans]
        plan = next((plan for plan in plans if plan.id == details.plan_id), None)
        if plan is None:
            raise errors.ErrBadRequest("no such plan of this service")
        slow = hasattr(plan, "maximum_polling_duration")
        if slow and not allowed:
            raise errors.ErrAsyncRequired()
        return Operation(kind, POLLS if slow else 0, bool((getattr(details, "parameters", None) or {}).get("fail")))

    @staticmethod
    def known(kept, key, error):
        found = kept.get(key)
        if found is None or found.gone:
            raise error()
        return found

    def provision(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            known = self.instances.get(instance_id)
            dashboard = f"https://queue.example/{instance_id}"
            if known and not known.gone:
                if known.asked() != Kept(details, None).asked():
                    raise errors.ErrInstanceAlreadyExists()
                state = ProvisionState.IS_ASYNC if known.operation.left else ProvisionState.IDENTICAL_ALREADY_EXISTS
                return ProvisionedServiceSpec(state, dashboard, known.operation.name)
            operation = self.start(details, "provision", async_allowed)
            if operation.fails and not operation.left:
                raise RuntimeError("it failed, as was asked for")
            self.instances[instance_id] = Kept(details, operation)
            state = ProvisionState.IS_ASYNC if operation.left else ProvisionState.SUCCESSFUL_CREATED
            return ProvisionedServiceSpec(state, dashboard, operation.name)

    def get_instance(self, instance_id, **kwargs):
        with self.lock:
            known = self.known(self.instances, instance_id, errors.ErrInstanceDoesNotExist)
            if known.operation.left:
                raise errors.ErrConcurrentInstanceAccess()
            details = known.details
            return GetInstanceDetailsSpec(details.service_id, details.plan_id, parameters=details.parameters)

    def update(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            known = self.known(self.instances, instance_id, errors.ErrBadRequest)
            if known.operation.left:
                raise errors.ErrConcurrentInstanceAccess()
            if details.service_id != known.details.service_id:
                raise errors.ErrBadRequest("an instance keeps its service")
            details.plan_id = details.plan_id or known.details.plan_id
            known.operation = self.start(details, "update", async_allowed)
            if not known.operation.fails:
                known.details.plan_id, known.details.parameters = details.plan_id, details.parameters
            return UpdateServiceSpec(bool(known.operation.left), known.operation.name)

    def deprovision(self, instance_id, details, async_allowed, **kwargs):
        with self.lock:
            known = self.known(self.instances, instance_id, errors.ErrInstanceDoesNotExist)
            known.operation = self.start(details, "deprovision", async_allowed)
            known.gone = not known.operation.left
            return DeprovisionServiceSpec(not known.gone, known.operation.name)

    def bind(self, instance_id, binding_id, details, async_allowed, **kwargs):
        with self.lock:
            owner = self.known(self.instances, instance_id, errors.ErrBadRequest)
            known = self.bindings.get((instance_id, binding_id))
            found = credentials(instance_id, binding_id)
            if known and not known.gone:
                if known.asked() != Kept(details, None).asked():
                    raise errors.ErrBindingAlreadyExists()
                state = BindState.IS_ASYNC if known.operation.left else BindState.IDENTICAL_ALREADY_EXISTS
                return Binding(state, found, operation=known.operation.name)
            if (details.service_id, details.plan_id) != (owner.details.service_id, owner.details.plan_id):
                raise errors.ErrBadRequest("the instance is of another plan")
            operation = self.start(details, "bind", async_allowed)
            self.bindings[instance_id, binding_id] = Kept(details, operation)
            state = BindState.IS_ASYNC if operation.left else BindState.SUCCESSFUL_BOUND
            return Binding(state, found, operation=operation.name)

    def get_binding(self, instance_id, binding_id, **kwargs):
        with self.lock:
            known = self.known(self.bindings, (instance_id, binding_id), errors.ErrBindingDoesNotExist)
            if known.operation.left:
                raise errors.ErrBindingDoesNotExist()
            return GetBindingSpec(credentials(instance_id, binding_id), parameters=known.details.parameters)

    def unbind(self, instance_id, binding_id, details, async_allowed, **kwargs):
        with self.lock:
            known = self.known(self.bindings, (instance_id, binding_id), errors.ErrBindingDoesNotExist)
            known.operation = self.start(details, "unbind", async_allowed)
            known.gone = not known.operation.left
            return UnbindSpec(not known.gone, known.operation.name)

    def last_operation(self, instance_id, operation_data, service_id, plan_id, **kwargs):
        with self.lock:
            if instance_id not in self.instances:
                raise errors.ErrInstanceDoesNotExist()
            return self.poll(self.instances[instance_id], "deprovision", operation_data, service_id, plan_id)

    def last_binding_operation(self, instance_id, binding_id, operation_data, service_id, plan_id, **kwargs):
        with self.lock:
            if (instance_id, binding_id) not in self.bindings:
                raise errors.ErrBadRequest("no such binding")
            return self.poll(self.bindings[instance_id, binding_id], "unbind", operation_data, service_id, plan_id)

    @staticmethod
    def poll(known, ending, *asked):
        said = known.operation.poll(*asked)
        known.gone = known.gone or (known.operation.kind == ending and not known.operation.left)
        return said


def credentials(instance_id, binding_id):
    return {"uri": f"queue://{binding_id}@queue.example/{instance_id}", "serial": 10**40, "ratio": 1e-7, "who": "ä<&>"}


if __name__ == "__main__":
    # The library prints each refusal with its traceback, which says nothing that the answer does not.
    logging.disable(logging.CRITICAL)
    with open(sys.argv[1], encoding="utf-8") as file:
        broker = Queue(json.load(file)["services"])
    login = api.BrokerCredentials(os.environ["BROKER_USERNAME"], os.environ["BROKER_PASSWORD"])
    app = Flask(__name__)
    app.register_blueprint(api.get_blueprint(broker, login, logging.root))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"listens http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
