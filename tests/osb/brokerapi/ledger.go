package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"

	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"
)

// Polls that an operation takes: all but the last say that it is in progress.
const polls = 3

// A plan with a maximum_polling_duration works asynchronously only, any other at once. What is created with the
// parameter "fail" fails. Nothing depends on time or chance: the same requests get the same answers.
type ledger struct {
	sync.Mutex
	services  []domain.Service
	instances map[string]*instance
}

type instance struct {
	details   domain.ProvisionDetails
	operation operation
	bindings  map[string]*binding
}

type binding struct {
	details   domain.BindDetails
	operation operation
}

type operation struct {
	kind  string
	left  int
	fails bool
}

func newLedger(services []domain.Service) *ledger {
	return &ledger{services: services, instances: map[string]*instance{}}
}

// Sent back by the platform with each poll; what is in it must arrive as it was sent.
func (o operation) name() string {
	return o.kind + " #1 50%/+ä?&="
}

// Counts a poll and says what became of it; true when it has ended.
func (o *operation) poll(details domain.PollDetails) (domain.LastOperation, bool) {
	said := fmt.Sprintf("%s, asked for %q of %q %q", o.kind, details.OperationData, details.ServiceID, details.PlanID)
	if o.left > 0 {
		o.left--
	}
	if o.left > 0 {
		return domain.LastOperation{State: domain.InProgress, Description: said}, false
	}
	if o.fails {
		return domain.LastOperation{State: domain.Failed, Description: said}, true
	}
	return domain.LastOperation{State: domain.Succeeded, Description: said}, true
}

func refusal(status int, why string) error {
	return apiresponses.NewFailureResponse(errors.New(why), status, "refused")
}

func fails(parameters json.RawMessage) (bool, error) {
	var wanted struct{ Fail bool }
	if len(parameters) > 0 && json.Unmarshal(parameters, &wanted) != nil {
		return false, refusal(http.StatusBadRequest, "parameters are not as the schema says")
	}
	return wanted.Fail, nil
}

func (l *ledger) plan(service, plan string) (*domain.ServicePlan, error) {
	for _, offering := range l.services {
		for i := range offering.Plans {
			if offering.ID == service && offering.Plans[i].ID == plan {
				return &offering.Plans[i], nil
			}
		}
	}
	return nil, refusal(http.StatusBadRequest, "no such plan of this service")
}

func start(plan *domain.ServicePlan, kind string, allowed, fail bool) (operation, error) {
	if plan.MaximumPollingDuration == nil {
		return operation{kind: kind, fails: fail}, nil
	}
	if !allowed {
		return operation{}, apiresponses.ErrAsyncRequired
	}
	return operation{kind: kind, left: polls, fails: fail}, nil
}

func maintained(plan *domain.ServicePlan, asked *domain.MaintenanceInfo) error {
	switch {
	case asked == nil:
		return nil
	case plan.MaintenanceInfo == nil:
		return apiresponses.ErrMaintenanceInfoNilConflict
	case !asked.Equals(*plan.MaintenanceInfo):
		return apiresponses.ErrMaintenanceInfoConflict
	}
	return nil
}

func (l *ledger) Services(context.Context) ([]domain.Service, error) {
	return l.services, nil
}

func (l *ledger) Provision(_ context.Context, id string, details domain.ProvisionDetails, allowed bool) (spec domain.ProvisionedServiceSpec, err error) {
	l.Lock()
	defer l.Unlock()
	if details.OrganizationGUID == "" || details.SpaceGUID == "" {
		return spec, refusal(http.StatusBadRequest, "organization_guid and space_guid are required")
	}
	plan, err := l.plan(details.ServiceID, details.PlanID)
	if err != nil {
		return spec, err
	}
	if err = maintained(plan, details.MaintenanceInfo); err != nil {
		return spec, err
	}
	fail, err := fails(details.RawParameters)
	if err != nil {
		return spec, err
	}
	spec.DashboardURL = "https://ledger.example/" + id + "?a=1&b=<2>"
	if known, found := l.instances[id]; found {
		if !reflect.DeepEqual(known.details, details) {
			return spec, apiresponses.ErrInstanceAlreadyExists
		}
		spec.IsAsync, spec.AlreadyExists, spec.OperationData = known.operation.left > 0, known.operation.left == 0, known.operation.name()
		return spec, nil
	}
	started, err := start(plan, "provision", allowed, fail)
	if err != nil {
		return spec, err
	}
	if fail && started.left == 0 {
		return spec, refusal(http.StatusInternalServerError, "it failed, as was asked for")
	}
	l.instances[id] = &instance{details: details, operation: started, bindings: map[string]*binding{}}
	spec.IsAsync, spec.OperationData = started.left > 0, started.name()
	return spec, nil
}

func (l *ledger) GetInstance(_ context.Context, id string, _ domain.FetchInstanceDetails) (spec domain.GetInstanceDetailsSpec, err error) {
	l.Lock()
	defer l.Unlock()
	known, found := l.instances[id]
	switch {
	case !found, known.operation.kind == "provision" && known.operation.left > 0:
		return spec, refusal(http.StatusNotFound, "no such instance")
	case known.operation.left > 0:
		return spec, apiresponses.ErrConcurrentInstanceAccess
	}
	spec.ServiceID, spec.PlanID = known.details.ServiceID, known.details.PlanID
	spec.DashboardURL = "https://ledger.example/" + id
	if len(known.details.RawParameters) > 0 {
		spec.Parameters = known.details.RawParameters
	}
	spec.Metadata.Labels = map[string]any{"zone": "b", "area": "a"}
	return spec, nil
}

func (l *ledger) Update(_ context.Context, id string, details domain.UpdateDetails, allowed bool) (spec domain.UpdateServiceSpec, err error) {
	l.Lock()
	defer l.Unlock()
	known, found := l.instances[id]
	switch {
	case !found:
		return spec, refusal(http.StatusBadRequest, "no such instance")
	case details.ServiceID != known.details.ServiceID:
		return spec, refusal(http.StatusBadRequest, "an instance keeps its service")
	case known.operation.left > 0:
		return spec, apiresponses.ErrConcurrentInstanceAccess
	}
	if details.PlanID == "" {
		details.PlanID = known.details.PlanID
	}
	plan, err := l.plan(details.ServiceID, details.PlanID)
	if err != nil {
		return spec, err
	}
	if err = maintained(plan, details.MaintenanceInfo); err != nil {
		return spec, err
	}
	fail, err := fails(details.RawParameters)
	if err != nil {
		return spec, err
	}
	if known.operation, err = start(plan, "update", allowed, fail); err != nil {
		return spec, err
	}
	if !fail {
		known.details.PlanID = details.PlanID
		known.details.RawParameters = details.RawParameters
	}
	spec.IsAsync = known.operation.left > 0
	if spec.IsAsync {
		spec.OperationData = known.operation.name()
	}
	return spec, nil
}

func (l *ledger) Deprovision(_ context.Context, id string, details domain.DeprovisionDetails, allowed bool) (spec domain.DeprovisionServiceSpec, err error) {
	l.Lock()
	defer l.Unlock()
	known, found := l.instances[id]
	if !found {
		return spec, apiresponses.ErrInstanceDoesNotExist
	}
	plan, err := l.plan(details.ServiceID, details.PlanID)
	if err != nil {
		return spec, err
	}
	started, err := start(plan, "deprovision", allowed, false)
	if err != nil {
		return spec, err
	}
	if started.left == 0 {
		delete(l.instances, id)
		return spec, nil
	}
	known.operation = started
	return domain.DeprovisionServiceSpec{IsAsync: true, OperationData: started.name()}, nil
}

func (l *ledger) LastOperation(_ context.Context, id string, details domain.PollDetails) (said domain.LastOperation, err error) {
	l.Lock()
	defer l.Unlock()
	known, found := l.instances[id]
	if !found {
		return said, apiresponses.ErrInstanceDoesNotExist
	}
	said, ended := known.operation.poll(details)
	if ended && known.operation.kind == "deprovision" {
		delete(l.instances, id)
		return said, apiresponses.ErrInstanceDoesNotExist
	}
	return said, nil
}

func (l *ledger) Bind(_ context.Context, id, bindingID string, details domain.BindDetails, allowed bool) (spec domain.Binding, err error) {
	l.Lock()
	defer l.Unlock()
	owner, found := l.instances[id]
	if !found {
		return spec, apiresponses.ErrInstanceDoesNotExist
	}
	if known, found := owner.bindings[bindingID]; found {
		if !reflect.DeepEqual(known.details, details) {
			return spec, apiresponses.ErrBindingAlreadyExists
		}
		spec.IsAsync, spec.AlreadyExists, spec.OperationData = known.operation.left > 0, known.operation.left == 0, known.operation.name()
		spec.Credentials = credentials(id, bindingID)
		return spec, nil
	}
	if details.ServiceID != owner.details.ServiceID || details.PlanID != owner.details.PlanID {
		return spec, refusal(http.StatusBadRequest, "the instance is of another plan")
	}
	plan, err := l.plan(details.ServiceID, details.PlanID)
	if err != nil {
		return spec, err
	}
	fail, err := fails(details.RawParameters)
	if err != nil {
		return spec, err
	}
	started, err := start(plan, "bind", allowed, fail)
	if err != nil {
		return spec, err
	}
	owner.bindings[bindingID] = &binding{details: details, operation: started}
	if spec.IsAsync = started.left > 0; spec.IsAsync {
		spec.OperationData = started.name()
		return spec, nil
	}
	spec.Credentials = credentials(id, bindingID)
	spec.Endpoints = []domain.Endpoint{{Host: "ledger.example", Ports: []string{"443"}}}
	return spec, nil
}

// A number that no float holds and members in no order: an answer that is read and written again is no longer the same.
func credentials(id, bindingID string) any {
	var text bytes.Buffer
	fmt.Fprintf(&text, `{"uri":"ledger://%s:%s@ledger.example","serial":12345678901234567890.1234567890,"a":"\u00e4 <&>"}`, bindingID, id)
	return json.RawMessage(text.Bytes())
}

func (l *ledger) GetBinding(_ context.Context, id, bindingID string, _ domain.FetchBindingDetails) (spec domain.GetBindingSpec, err error) {
	l.Lock()
	defer l.Unlock()
	known := l.binding(id, bindingID)
	if known == nil || known.operation.left > 0 {
		return spec, apiresponses.ErrBindingNotFound
	}
	spec.Credentials = credentials(id, bindingID)
	if len(known.details.RawParameters) > 0 {
		spec.Parameters = known.details.RawParameters
	}
	return spec, nil
}

func (l *ledger) binding(id, bindingID string) *binding {
	if owner, found := l.instances[id]; found {
		return owner.bindings[bindingID]
	}
	return nil
}

func (l *ledger) Unbind(_ context.Context, id, bindingID string, details domain.UnbindDetails, allowed bool) (spec domain.UnbindSpec, err error) {
	l.Lock()
	defer l.Unlock()
	known := l.binding(id, bindingID)
	if known == nil {
		return spec, apiresponses.ErrBindingDoesNotExist
	}
	plan, err := l.plan(details.ServiceID, details.PlanID)
	if err != nil {
		return spec, err
	}
	started, err := start(plan, "unbind", allowed, false)
	if err != nil {
		return spec, err
	}
	if started.left == 0 {
		delete(l.instances[id].bindings, bindingID)
		return spec, nil
	}
	known.operation = started
	return domain.UnbindSpec{IsAsync: true, OperationData: started.name()}, nil
}

func (l *ledger) LastBindingOperation(_ context.Context, id, bindingID string, details domain.PollDetails) (said domain.LastOperation, err error) {
	l.Lock()
	defer l.Unlock()
	known := l.binding(id, bindingID)
	if known == nil {
		return said, apiresponses.ErrBindingDoesNotExist
	}
	said, ended := known.operation.poll(details)
	if ended && known.operation.kind == "unbind" {
		delete(l.instances[id].bindings, bindingID)
		return said, apiresponses.ErrBindingDoesNotExist
	}
	return said, nil
}
